"use strict";
// Shows the values under the pointer. Text is set as text only, so a name can be anything.
(() => {
  const digits = (value, count) => Number(value.toPrecision(count)).toLocaleString("en");
  const latency = (us) =>
    us < 1e3 ? digits(us, 3) + " µs" : us < 1e6 ? digits(us / 1e3, 3) + " ms" : digits(us / 1e6, 3) + " s";
  const text = {
    s: (v) => digits(v, 4) + " s",
    us: latency,
    q: (v) => "p" + Number((100 - 100 / v).toFixed(Math.max(2, Math.ceil(Math.log10(v))))),
    rate: (v) => Math.round(v).toLocaleString("en") + "/s",
    cpu: (v) => digits(v, 3) + " %",
    mib: (v) => digits(v, 4) + " MiB",
  };
  const along = (value, [low, high, log]) =>
    log ? Math.log(Math.max(value, low) / low) / Math.log(high / low) : (value - low) / (high - low);

  for (const plot of document.querySelectorAll(".plot")) {
    const data = JSON.parse(plot.querySelector("script").textContent);
    const tip = plot.querySelector(".tip");
    for (const svg of plot.querySelectorAll("svg.chart")) {
      const [left, , right] = svg.dataset.box.split(" ").map(Number);
      const axis = svg.dataset.x.split(" ").map(Number);
      const cursor = svg.querySelector(".cursor");
      const hide = () => {
        tip.hidden = true;
        cursor.setAttribute("visibility", "hidden");
      };
      const show = (event) => {
        const box = svg.getBoundingClientRect();
        const scale = svg.viewBox.baseVal.width / box.width;
        const at = ((event.clientX - box.left) * scale - left) / (right - left);
        if (at < -0.02 || at > 1.02) return hide();
        let nearest = null;
        const rows = data.series.map(({ points }) => {
          let low = 0, high = points.length - 1;
          while (high - low > 1) {
            const middle = (low + high) >> 1;
            if (along(points[middle][0], axis) < at) low = middle;
            else high = middle;
          }
          const away = (index) => Math.abs(along(points[index][0], axis) - at);
          const point = points[away(low) <= away(high) ? low : high];
          if (nearest === null || Math.abs(along(point[0], axis) - at) < Math.abs(along(nearest, axis) - at))
            nearest = point[0];
          return point;
        });
        const x = left + Math.min(1, Math.max(0, along(nearest, axis))) * (right - left);
        cursor.setAttribute("d", cursor.getAttribute("d").replace(/^M[\d.]+/, "M" + x.toFixed(1)));
        cursor.setAttribute("visibility", "visible");
        tip.replaceChildren();
        const head = document.createElement("b");
        head.textContent = text[data.x](nearest);
        tip.append(head);
        rows.forEach((point, index) => {
          const line = document.createElement("div");
          const value = point[1] === null ? "nothing arrived" : text[data.y](point[1]);
          const key = plot.parentElement.querySelectorAll(".legend li svg")[index];
          if (key) line.append(key.cloneNode(true));
          line.append(data.series.length > 1 ? data.series[index].name + ": " + value : value);
          tip.append(line);
        });
        tip.hidden = false;
        const pixel = x / scale;
        const beyond = pixel + 14 + tip.offsetWidth > box.width;
        tip.style.left = Math.max(0, beyond ? pixel - 14 - tip.offsetWidth : pixel + 14) + "px";
      };
      svg.addEventListener("pointermove", show);
      svg.addEventListener("pointerdown", show);
      svg.addEventListener("pointerleave", hide);
    }
  }
})();
