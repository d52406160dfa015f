"""What is registered: versions, their files, and how an ensemble becomes one."""
