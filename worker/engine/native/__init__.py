"""The decoder in C++ for CPUs with AVX-512 BF16: compiled at first use, spoken to through ctypes."""
