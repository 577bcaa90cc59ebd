// The page is made by the gateway each time; this only puts the new one in place of the old.
async function follow() {
  try {
    const answer = await fetch(location.pathname, { cache: "no-store" });
    const text = await answer.text();
    const part = text.slice(text.indexOf("<main>"), text.indexOf("</main>"));
    const main = new DOMParser().parseFromString(part, "text/html").querySelector("main");
    document.querySelector("main").replaceWith(main);
    document.title = main.querySelector("h1").textContent;
    document.body.classList.remove("alone");
  } catch {
    document.body.classList.add("alone");
  }
  setTimeout(follow, document.hidden ? 5000 : 1000);
}
setTimeout(follow, 1000);
