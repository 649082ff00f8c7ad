// Now and then Chromium never says that a context is closed, of which a page was just going elsewhere. It is gone all the same, and nobody
// need wait for that.
exports.close = (context) => Promise.race([context.close(), new Promise((done) => setTimeout(done, 30_000))]);
