"""What is wrong with a certificate, in words; and the causes behind an exception, where OpenSSL's own reason stands."""

import ssl
from collections.abc import Iterator

# OpenSSL's X509_V_ERR_* that a person can mend.
_NOT_YET_VALID, _EXPIRED, _WRONG_NAMES = 9, 10, (62, 64)


def certificate_fault(cause: ssl.SSLCertVerificationError) -> str:
    """Why a server's certificate was refused."""
    if cause.verify_code == _EXPIRED:
        return "its certificate has expired"
    if cause.verify_code == _NOT_YET_VALID:
        return "its certificate is not valid yet"
    if cause.verify_code in _WRONG_NAMES:
        return f"its certificate is for another name ({cause.verify_message.rstrip('.')})"
    return f"its certificate comes from an authority that we do not trust ({cause.verify_message})"


def causes(error: BaseException) -> Iterator[BaseException]:
    """The exception and what it came from, outermost first."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
