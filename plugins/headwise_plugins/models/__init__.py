"""The models of the recipes, apart from them so that recipes can be listed without torch."""
