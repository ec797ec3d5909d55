"""The host as a GPU machine shows it: device nodes, /proc, /sys, driver files, programs."""
