"""What CI and `make` need beside the tests: programs from elsewhere, and schemas."""
