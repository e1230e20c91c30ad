"""A plugin for headwise: which heads stay within their sentence."""
