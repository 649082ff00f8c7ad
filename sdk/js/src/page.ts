import type { Options, Properties, Pulse } from "./types.js";
import { watchVitals } from "./vitals.js";

const DOWNLOAD = /\.(7z|avi|csv|dmg|docx?|exe|gz|key|midi?|mov|mp[34]|mpe?g|pdf|pkg|pptx?|rar|rtf|tar|tgz|txt|wav|wmv|xlsx?|xz|zip)$/i;

/** The page: what the context of an event is, and from `begin` on events for pages, links, forms and vitals as `options` say. */
export function pageOf() {
  let shown = location.href;
  let from = document.referrer;
  const context = (timezone?: string, more?: Properties) => ({
    locale: navigator.language,
    timezone,
    ...more,
    page: { url: location.href, title: document.title, referrer: from, ...(more?.page as object) },
    screen: { width: screen.width, height: screen.height, density: devicePixelRatio, ...(more?.screen as object) },
  });
  const on = (target: EventTarget, type: string, then: (event: any) => void) => target.addEventListener(type, then, true);

  const begin = (options: Options, pulse: Pulse, leave: () => void) => {
    const navigated = () => {
      // Of a fragment only what a router puts there is another page.
      const bare = (url: string) => url.replace(/#(?![/!]).*/, "");
      if (bare(location.href) === bare(shown)) return;
      from = shown;
      shown = location.href;
      pulse.page();
    };
    const watchHistory = () => {
      for (const name of ["pushState", "replaceState"] as const) {
        const changes = history[name];
        history[name] = function (...change) {
          changes.apply(this, change);
          navigated();
        };
      }
      on(window, "popstate", navigated);
      // Back to a page that the browser has kept.
      on(window, "pageshow", ({ persisted }) => persisted && pulse.page());
      pulse.page();
    };

    const clicked = ({ type, target, button }: MouseEvent) => {
      const link = (target as Element).closest?.<HTMLAnchorElement>("a[href]");
      // One in an SVG has no parts.
      if (!link?.protocol || (type === "auxclick" && button !== 1)) return;
      const properties = { url: link.href, text: link.textContent!.trim().slice(0, 100) };
      if (options.downloads && (link.hasAttribute("download") || DOWNLOAD.test(link.pathname))) pulse.track("file_download", properties);
      else if (options.outbound && /^http/.test(link.protocol) && link.host !== location.host) pulse.track("outbound_link", properties);
    };

    // What was entered is nobody's business. `form.id` and the like are fields of these names where there are some.
    const submitted = ({ target }: { target: Element }) => {
      // Resolved as a link is, which fails for no address.
      const link = document.createElement("a");
      link.href = target.getAttribute("action") || location.href;
      pulse.track("form_submit", { id: target.getAttribute("id"), name: target.getAttribute("name"), action: link.href });
    };

    const start = () => {
      if (options.pages ?? true) watchHistory();
      if (options.outbound || options.downloads) on(document, "click", clicked), on(document, "auxclick", clicked);
      if (options.forms) on(document, "submit", submitted);
      if (options.vitals) watchVitals((vitals) => pulse.track("web_vitals", vitals));
      on(document, "visibilitychange", () => document.hidden && leave());
      on(window, "pagehide", leave);
    };
    // Shown to nobody yet, and perhaps never.
    if ((document as { prerendering?: boolean }).prerendering) on(document, "prerenderingchange", start);
    else start();
  };
  return { context, begin };
}
