"""What others' lanes commit: judged, challenged, succeeded, attested."""
