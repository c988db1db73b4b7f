"""What changes this node while it runs, and what it holds that is private: for its owner alone.

`AdminDoor` listens on `<state>/run/admin.sock`, reads HTTP as the gateway does, and lets in root and the daemon's own user,
whom the kernel names. `Verbs` is the table of what they may ask. `LiveLimits` are the limits in force, changed by a verb or
by a config file that is read again.
Left to others: reading what is public (the gateway's `/-/api`, open to local users), what a limit means (delivery's `Pace`).
"""

from p2pmodel.admin.door import AdminDoor, bind
from p2pmodel.admin.live_limits import Dial, LiveLimits
from p2pmodel.admin.verbs import Verbs

__all__ = ["AdminDoor", "Dial", "LiveLimits", "Verbs", "bind"]
