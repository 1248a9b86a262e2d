"""What an object store says when something fails, in a few words of ours: never with a key or an address in them."""

from __future__ import annotations

BUCKET = ("NO_SUCH_BUCKET", "NoSuchBucket", "ContainerNotFound", "bucket does not exist")
CREDENTIALS = (
    "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "UNRECOGNIZED_CLIENT", "EXPIRED_TOKEN", "InvalidAccessKeyId",
    "INVALID_CLIENT_TOKEN", "InvalidClientTokenId", "ExpiredToken", "AuthenticationFailed", "UNAUTHENTICATED",
)  # fmt: skip
PERMISSION = (
    "ACCESS_DENIED", "AccessDenied", "HTTP response code: 403", "HTTP status 403", "PERMISSION_DENIED",
    "AuthorizationFailure", "AuthorizationPermission",
)  # fmt: skip
REGION = (
    "PermanentRedirect", "AUTHORIZATION_HEADER_MALFORMED", "AuthorizationHeaderMalformed", "IllegalLocationConstraint",
    "HTTP response code: 301", "HTTP status 301", "try configuring the client region",
)  # fmt: skip
NETWORK = ("NETWORK_CONNECTION", "REQUEST_TIMEOUT", "Could not connect", "Could not resolve", "curlCode:")
BUSY = ("SLOW_DOWN", "SlowDown", "SERVICE_UNAVAILABLE", "HTTP response code: 503")
ABSENT = ("NO_SUCH_KEY", "NoSuchKey", "BlobNotFound", "Path does not exist")
OTHER = ("AWS Error", "GoogleErrorInfo", "Azure")
SAID = (
    (BUCKET, "there is no such bucket"),
    (CREDENTIALS, "the store does not accept the credentials it was given"),
    (PERMISSION, "the store gives no permission; credentials come from the environment or the store's own files"),
    (REGION, "the bucket lies in another region; AWS_REGION tells which"),
    (NETWORK, "the store cannot be reached"),
    (BUSY, "the store has too much to do; try again later"),
    (ABSENT, "it does not exist"),
    (OTHER, "the store failed"),
)


def told(error: OSError) -> str:
    """The reason, or the system's own first line where it comes from no store."""
    text = str(error)
    for signs, sentence in SAID:
        if any(sign in text for sign in signs):
            return sentence
    return text.splitlines()[0] if text else type(error).__name__
