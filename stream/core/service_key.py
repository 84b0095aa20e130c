"""The service key: routing key, state key, output key and part of every id.

`environment/namespace/name`, with `-` for an absent namespace and `unknown` for an absent environment. `/` and `%`
inside a part, and a namespace that is literally `-`, are percent-encoded, so a key splits in exactly one way.
"""

UNKNOWN_ENVIRONMENT = "unknown"
ABSENT_NAMESPACE = "-"


def service_key(environment: str | None, namespace: str | None, name: str | None) -> str:
    """Returns the key of a service from its three resource attributes; an absent name is `unknown_service`."""
    return "/".join(
        (
            _escape(environment or UNKNOWN_ENVIRONMENT),
            "%2D" if namespace == ABSENT_NAMESPACE else _escape(namespace or ABSENT_NAMESPACE),
            _escape(name or "unknown_service"),
        )
    )


def split_service_key(key: str) -> tuple[str, str, str]:
    """Returns (environment, namespace, name) as they were before escaping.

    Raises:
        ValueError: When the key does not have three parts.
    """
    environment, namespace, name = key.split("/")
    return _unescape(environment), _unescape(namespace), _unescape(name)


def _escape(part: str) -> str:
    return part.replace("%", "%25").replace("/", "%2F")


def _unescape(part: str) -> str:
    return part.replace("%2D", "-").replace("%2F", "/").replace("%25", "%")


def partition_of(key: str, partitions: int) -> int:
    """Returns the shuffle partition of a service key: murmur2(key) mod P, as Kafka's Java client would choose it."""
    return murmur2(key.encode()) % partitions


def murmur2(data: bytes) -> int:
    """Returns the positive 31-bit murmur2 hash that Kafka's default partitioner uses.

    Source: org.apache.kafka.common.utils.Utils.murmur2 and toPositive.
    """
    mask, multiplier = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(data)) & mask
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        k = (int.from_bytes(data[i : i + 4], "little") * multiplier) & mask
        h = ((h * multiplier) & mask) ^ (((k ^ (k >> 24)) * multiplier) & mask)
    tail = data[whole:]
    if tail:
        h = ((h ^ int.from_bytes(tail, "little")) * multiplier) & mask
    h = ((h ^ (h >> 13)) * multiplier) & mask
    return (h ^ (h >> 15)) & 0x7FFFFFFF
