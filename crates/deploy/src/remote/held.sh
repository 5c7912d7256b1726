# Does nothing: that it is run says that the lock is held.
