"""Networks: opened safely, cut in two, made into a GoodNet."""
