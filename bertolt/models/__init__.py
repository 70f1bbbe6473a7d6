"""The encoder, its attention seam, its heads and their losses."""

from bertolt.base.machine import bound_kernel_caches

bound_kernel_caches()
