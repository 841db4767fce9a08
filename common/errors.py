"""The one error that a user can mend, by the name that scripts import it by."""

from common.system.errors import UserError

__all__ = ["UserError"]
