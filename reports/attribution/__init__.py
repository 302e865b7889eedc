"""Which evidence a head read, and where: computed on stored tokens, without the encoder."""
