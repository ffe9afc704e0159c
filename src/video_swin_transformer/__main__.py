"""`python -m video_swin_transformer` is the command `videoswin`."""

from .cli import main

main()
