"""``python -m lightunet_monai`` is the command line."""

from .cli import run_process

if __name__ == "__main__":
    run_process()
