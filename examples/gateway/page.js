// The page is made by the gateway each time; this only puts the new one in place of the old.
async function follow() {
  try {
    const answer = await fetch(location.pathname, { cache: "no-store" });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.querySelector("main").replaceWith(page.querySelector("main"));
    document.title = page.title;
    document.body.classList.remove("alone");
  } catch {
    document.body.classList.add("alone");
  }
  setTimeout(follow, document.hidden ? 5000 : 1000);
}
setTimeout(follow, 1000);
