# The other plugin people choose: JSON to a local file, for something else to read.
exec laurel --config "{dir}/laurel.toml"
