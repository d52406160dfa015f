"""One module per DVC stage: read params, call a room, log, write outs. No algorithm lives here."""
