"""The images' HEALTHCHECK, without a shell or curl: prints the page, and ends with 0 when it answers 200.

python -m ops.compose.health http://127.0.0.1:9464/health/live
"""

import sys
import urllib.error
import urllib.request

TIMEOUT_S = 4.0


def main(arguments: list[str]) -> str | None:
    """What is wrong, in one line, or nothing."""
    if len(arguments) != 1 or not arguments[0].startswith("http://127.0.0.1:"):
        return "usage: python -m ops.compose.health http://127.0.0.1:PORT/PAGE"
    try:
        with urllib.request.urlopen(arguments[0], timeout=TIMEOUT_S) as answer:
            print(answer.read().decode())
            return None
    except urllib.error.HTTPError as error:
        return f"{arguments[0]} answers {error.code}: {error.read().decode(errors='replace').strip()}"
    except OSError as error:
        return f"{arguments[0]}: {error}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
