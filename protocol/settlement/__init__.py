"""An epoch of a lane as the chain sees it, and what proves that it is wrong."""
