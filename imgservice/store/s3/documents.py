"""The XML documents of the protocol."""

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import attrs


@attrs.frozen
class SentPart:
    """A part that the server has."""

    number: int
    etag: str
    checksums: Mapping[str, str] = attrs.field(factory=dict)
    """Those that were sent with it, by the names that they have in XML."""


def read_document(text: bytes) -> Mapping[str, str]:
    """Return the texts of the elements directly in the root; what is no XML has none."""
    root = _root(text)
    return {} if root is None else {_name(one): one.text or "" for one in root}


def is_error(text: bytes) -> bool:
    """Tell whether an answer with a good status is an error: the status came before the work."""
    root = _root(text.strip())
    return root is not None and _name(root) == "Error"


def read_uploads(text: bytes, key: str) -> Sequence[str]:
    """Return the ids of the uploads to this key in a list of uploads."""
    root = _root(text)
    found = []
    for upload in () if root is None else root:
        values = {_name(one): one.text or "" for one in upload}
        if _name(upload) == "Upload" and values.get("Key") == key and values.get("UploadId"):
            found.append(values["UploadId"])
    return found


def completion(parts: Sequence[SentPart]) -> bytes:
    """Return the list of the parts that make up an object."""
    listed = "".join(
        f"<Part><PartNumber>{part.number}</PartNumber>"
        f"<ETag>{escape(part.etag)}</ETag>"
        + "".join(f"<{name}>{escape(value)}</{name}>" for name, value in part.checksums.items())
        + "</Part>"
        for part in parts
    )
    text = f'<CompleteMultipartUpload xmlns="{_NAMESPACE}">{listed}</CompleteMultipartUpload>'
    return text.encode()


def bucket_location(region: str) -> bytes:
    """Return what a new bucket in this region needs."""
    return (
        f'<CreateBucketConfiguration xmlns="{_NAMESPACE}">'
        f"<LocationConstraint>{escape(region)}</LocationConstraint>"
        "</CreateBucketConfiguration>"
    ).encode()


_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def _root(text: bytes) -> ElementTree.Element | None:
    try:
        return ElementTree.fromstring(text)  # noqa: S314 # of the operator's server, of 1 MiB
    except ElementTree.ParseError:
        return None


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
