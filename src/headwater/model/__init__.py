"""The words everything else is written in: values only, standard library only."""
