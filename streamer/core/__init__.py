"""Pure and synchronous: numpy and the standard library only, no I/O, no clock."""
