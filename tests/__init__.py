"""Tests of tagstream; a package so that shared fixtures can be named."""
