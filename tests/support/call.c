/* Makes system calls by number, in whichever ABI it is compiled for: call NUMBER ARGUMENT... [, NUMBER ARGUMENT...]...
 *
 * An argument is a number, s:TEXT (the address of TEXT), b:HEX (the address of these bytes, in which @ stands for the address of the
 * bytes before, as a word) or r (what the call before has returned).
 * Exits with 0 whatever the calls return: refused calls are audited, too. Without a C library, so that a 32-bit one can be made where only a
 * 64-bit library is installed, and so that it runs in any root.
 */
typedef unsigned long word;

#if defined(__x86_64__)
static long call(word n, word a, word b, word c, word d, word e, word f) {
  long r;
  register word r10 __asm__("r10") = d;
  register word r8 __asm__("r8") = e;
  register word r9 __asm__("r9") = f;
  __asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return r;
}
#define EXIT 231
__asm__(".globl _start\n_start: mov %rsp,%rdi\n and $-16,%rsp\n call start\n");
#elif defined(__i386__)
static long call(word n, word a, word b, word c, word d, word e, word f) {
  long r;
  word rest[2] = {n, f};
  __asm__ volatile("push %%ebp\n mov 4(%%eax),%%ebp\n mov (%%eax),%%eax\n int $0x80\n pop %%ebp"
                   : "=a"(r) : "a"(rest), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
  return r;
}
#define EXIT 252
__asm__(".globl _start\n_start: mov %esp,%eax\n and $-16,%esp\n sub $12,%esp\n push %eax\n call start\n");
#endif

static int digit(char c) { return c <= '9' ? c - '0' : (c | 32) - 'a' + 10; }

static word number(const char *s) {
  int negative = *s == '-';
  word v = 0, base = 10;
  s += negative;
  if (s[0] == '0' && s[1] == 'x') base = 16, s += 2;
  for (; *s; s++) v = v * base + digit(*s);
  return negative ? -v : v;
}

static word argument(char *s, word result) {
  if (s[0] == 'r' && !s[1]) return result;
  if (s[0] == 's' && s[1] == ':') return (word)(s + 2);
  if (s[0] == 'b' && s[1] == ':') {
    static char bytes[2][512];
    static int which;
    char *to = bytes[which = !which], *from = s + 2;
    word start = (word)to, before = (word)bytes[!which];
    for (unsigned i = 0; i < sizeof bytes[0]; i++) to[i] = 0;
    while (*from && to + sizeof(word) < bytes[which] + sizeof bytes[0])
      if (*from == '@') {
        for (unsigned i = 0; i < sizeof before; i++) *to++ = before >> 8 * i;
        from++;
      } else {
        *to++ = digit(from[0]) << 4 | digit(from[1]);
        from += 2;
      }
    return start;
  }
  return number(s);
}

void start(word *stack) {
  char **argv = (char **)(stack + 1);
  word result = 0;
  while (*++argv) {
    word a[7] = {0};
    int n = 0;
    for (; *argv && !(argv[0][0] == ',' && !argv[0][1]); argv++)
      if (n < 7) a[n++] = argument(*argv, result);
    result = call(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
    if (!*argv) break;
  }
  call(EXIT, 0, 0, 0, 0, 0, 0);
  for (;;) {}
}
