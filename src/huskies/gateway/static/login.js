// What stands behind "#" is never sent: the form carries it past the login to the view that was asked for.

document.querySelector("form").action = `/login${location.hash}`;
