// Closes a browser context; goes on after 30 s where Chromium never says that it is closed, as happens now and then when one of its pages is just
// going to another address. It is gone all the same.
exports.close = (context) => Promise.race([context.close(), new Promise((done) => setTimeout(done, 30_000))]);
