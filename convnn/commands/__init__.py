"""The commands, a file each: parameters in, calls to the modules that do the work, text out."""
