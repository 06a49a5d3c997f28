"""lm-eval behind one door, typed scores, and the benchmarks that the package ships."""
