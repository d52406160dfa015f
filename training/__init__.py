"""How a recogniser learns: losses, samplers, optimisers, the trainer, checkpoints and the loss log.

Importing this room before torch decides how torch's threads wait for each other.
"""

import os

# By default they spin, and beside another busy process the one that has no core makes the other spin for
# nothing: two threads then train at a fraction of one's speed (python -m bench.busy_neighbour). libgomp reads
# this once, when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
