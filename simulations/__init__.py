"""Research simulations that run the real scheduler and receipt arithmetic over modelled workers."""

import os

if os.environ.get("COMMONLORE_COMPILED", "0") not in ("", "0"):
    from .compiled.switch import switch_on

    switch_on()
