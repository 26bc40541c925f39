"""What settlement is measured with: the contracts on the embedded chain, a lane, its gas."""
