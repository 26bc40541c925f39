"""Where an engine computes, and what lies there: devices, the heap, streamed memory, weights."""
