// Live parts: the server sends the part of a page that moves, whole, whenever it is another.
for (const place of document.querySelectorAll("[data-live]")) {
  const stream = new EventSource(place.dataset.live);
  stream.onmessage = (message) => {
    // Nothing is taken away from under somebody's hands: whoever stands on a link in it gets the next one.
    if (!place.contains(document.activeElement)) place.innerHTML = message.data;
  };
}
