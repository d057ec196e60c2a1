"""The schemas of images that hold at present, and the checks compiled from them."""

from collections.abc import Iterable, Mapping, Sequence

from imgservice.api.v2.json_schemas.checks import check_image, compiled_schema
from imgservice.api.v2.json_schemas.custom import CustomProperties
from imgservice.api.v2.json_schemas.fields import Schema
from imgservice.api.v2.json_schemas.image_fields import image_schema, images_schema, with_formats
from imgservice.api.v2.json_schemas.members import MEMBER, MEMBERS


class ImageSchemas:
    """The documents, made once, and the checks of an image."""

    def __init__(
        self,
        disk: Sequence[str],
        container: Sequence[str],
        custom: CustomProperties | None = None,
    ) -> None:
        fields = with_formats(disk, container)
        self.custom = custom or CustomProperties()
        self.to_json = self.custom.to_json
        self.read_only = frozenset(name for name, field in fields.items() if field.get("readOnly"))
        added = {
            name: {**field, "is_base": False} for name, field in self.custom.properties.items()
        }
        self.image = image_schema({**fields, **added}, self.custom.required)
        self.images = images_schema(self.image)
        optional = {name: part for name, part in self.image.items() if name != "required"}
        self._check = compiled_schema({"type": "object", **self.image})
        self._check_part = compiled_schema({"type": "object", **optional})

    def referred(self) -> Mapping[str, Schema]:
        """Return the schemas to which the OpenAPI document refers."""
        return {
            "image": self.image,
            "images": self.images,
            "member": MEMBER,
            "members": MEMBERS,
        }

    def check(self, document: Mapping[str, object]) -> None:
        """Raise `Invalid`, naming the field and what it should be."""
        check_image(self._check, document)

    def check_part(self, document: Mapping[str, object]) -> None:
        """Do the same for some of the fields of an image."""
        check_image(self._check_part, document)

    def check_removed(self, names: Iterable[str]) -> None:
        """Raise `Invalid` when one of these is a property that every image must have."""
        for name in names:
            self.custom.check_removed(name)
