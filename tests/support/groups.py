"""Which tests one worker runs after each other, where several run tests beside each other."""

from __future__ import annotations

from typing import Final

import pytest

# Engines let interfaces of this machine come and go, and Chromium gives up what it is loading when one does.
# Two workers with one engine would build one image twice, and tidy away what the other is at.
INTERFACES: Final = pytest.mark.xdist_group("interfaces")
