"""Which tokens the next step computes, without a tensor in sight: requests, pages, slots, fairness."""
