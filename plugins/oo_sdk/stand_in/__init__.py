"""What stand-ins for providers are built of, the same for ours and for a stranger's.

A sub-class of `StandIn` is a whole provider in a page; a provider with ways of its own takes the parts: switches, consent, limits, pages.
It needs aiohttp, which is there where oO is. A stand-in is offered through `oo_sandboxes`, and served by `oo sandbox ID`.
"""

from oo_sdk.stand_in.authorization import Authorization
from oo_sdk.stand_in.consent import back, is_loopback, proves
from oo_sdk.stand_in.control import CONTROL, Control, asked
from oo_sdk.stand_in.limits import Window
from oo_sdk.stand_in.pages import front, page
from oo_sdk.stand_in.stand_in import Call, Page, Refusal, StandIn
from oo_sdk.stand_in.switches import NoSuchSwitch, Switch, Switches

__all__ = [
    "CONTROL",
    "Authorization",
    "Call",
    "Control",
    "NoSuchSwitch",
    "Page",
    "Refusal",
    "StandIn",
    "Switch",
    "Switches",
    "Window",
    "asked",
    "back",
    "front",
    "is_loopback",
    "page",
    "proves",
]
