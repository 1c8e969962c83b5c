"""Works out the order of a plan: who begins when, by what is estimated, so that the whole is done soonest."""
