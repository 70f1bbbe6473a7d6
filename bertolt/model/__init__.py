"""The encoder, its attention seam, its heads and their losses."""

from bertolt.machine import bound_kernel_caches

bound_kernel_caches()
