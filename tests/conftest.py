"""What every test may use: the shared fixtures, by module."""

pytest_plugins = ["tests.fixtures_services", "tests.fixtures_worker", "tests.fixtures_secure", "tests.fixtures_model"]
