"""The families of encoders, one file each; `base.py` lists them."""
