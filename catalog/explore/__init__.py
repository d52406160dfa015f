"""Looking at a catalogue: a page of plots and contact sheets, so that a person sees what a list dropped."""
