"""`make compose-test`: docker-compose.yml really run, with a load, a swap and a kill; see `__main__.py`."""
