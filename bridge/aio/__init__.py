"""What asyncio lacks, for any layer that waits."""
