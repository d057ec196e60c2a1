"""Use cases of members: the projects that an image is shared with."""

from collections.abc import Sequence

from imgservice.domain.access import Access
from imgservice.domain.context import Context
from imgservice.domain.errors import Forbidden, MemberNotFound, NotFound
from imgservice.domain.image import Image, Visibility
from imgservice.domain.limits import ImageLimits
from imgservice.domain.member import Member, read_project, read_status
from imgservice.service.events import Events, MemberAdded, MemberRemoved, MemberUpdated
from imgservice.service.ports import ImageRepository, MemberRepository


class MemberService:
    """Lets owners share images with projects, and these accept or reject the images.

    A member sees no other members.
    """

    def __init__(
        self,
        images: ImageRepository,
        members: MemberRepository,
        limits: ImageLimits,
        access: Access,
        events: Events,
    ) -> None:
        self._images = images
        self._members = members
        self._limits = limits
        self._access = access
        self._events = events

    async def list(self, context: Context, image_id: str) -> Sequence[Member]:
        image = await self._shared(context, image_id, "list")
        self._access.require(context, "get_members", image)
        members = await self._members.list(image.id)
        if not self._access.may(context, "get_member", image):
            return ()
        return [member for member in members if _sees(context, image, member.project)]

    async def add(self, context: Context, image_id: str, wanted: object) -> Member:
        """Share the image with a project."""
        project = read_project(wanted)
        image = await self._shared(context, image_id, "create")
        self._access.require(context, "add_member", image)
        member = await self._members.add(image.id, project, self._limits.members)
        self._events.tell(MemberAdded(context=context, image=image, member=member))
        return member

    async def show(self, context: Context, image_id: str, project: str) -> Member:
        """Return the member; `NotFound` also if the caller may see no members."""
        try:
            image = await self._shared(context, image_id, "show")
            return await self._find(context, image, project)
        except Forbidden as error:
            raise NotFound(error.message) from None

    async def decide(self, context: Context, image_id: str, project: str, status: object) -> Member:
        """Record the decision of the project, made by one of its users or an administrator."""
        image = await self._shared(context, image_id, "update")
        await self._find(context, image, project)
        self._access.require(context, "modify_member", image)
        member = await self._members.set_status(image.id, project, read_status(status))
        self._events.tell(MemberUpdated(context=context, image=image, member=member))
        return member

    async def remove(self, context: Context, image_id: str, project: str) -> None:
        """Stop sharing the image with the project."""
        image = await self._shared(context, image_id, "delete")
        member = await self._find(context, image, project)
        self._access.require(context, "delete_member", image)
        await self._members.remove(image.id, project)
        self._events.tell(MemberRemoved(context=context, image=image, member=member))

    async def _shared(self, context: Context, image_id: str, verb: str) -> Image:
        image = await self._images.get(image_id, context.project)
        self._access.require_visible(context, image)
        if image.visibility is not Visibility.SHARED:
            raise Forbidden(
                f"Not allowed to {verb} members for image {image.id}:"
                " Only shared images have members."
            )
        return image

    async def _find(self, context: Context, image: Image, project: str) -> Member:
        self._access.require(context, "get_member", image)
        if not _sees(context, image, project):
            raise MemberNotFound(image.id, project)
        return await self._members.get(image.id, project)


def _sees(context: Context, image: Image, project: str) -> bool:
    """Tell whether the caller may know if the project is a member."""
    if context.project is None:
        return context.is_admin
    return context.is_admin or context.project in (project, image.owner)
