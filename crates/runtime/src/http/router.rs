//! The table of routes.

use std::pin::Pin;
use std::sync::Arc;

use hyper::Method;

use super::message::{Request, Response};

type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;
type Handler = Arc<dyn Fn(Request) -> Answer + Send + Sync>;

/// Maps methods and paths to handlers; its front page lists them.
#[derive(Clone)]
pub struct Router {
    title: &'static str,
    routes: Vec<Route>,
}

#[derive(Clone)]
struct Route {
    method: Method,
    path: &'static str,
    about: &'static str,
    handler: Handler,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let paths = self.routes.iter().map(|r| (&r.method, r.path));
        f.debug_list().entries(paths).finish()
    }
}

impl Router {
    /// An empty table; `title` heads its front page.
    #[must_use]
    pub const fn new(title: &'static str) -> Self {
        Self {
            title,
            routes: Vec::new(),
        }
    }

    /// Adds a route, or replaces the one with the same method and path.
    #[must_use]
    pub fn route<F>(
        mut self,
        method: Method,
        path: &'static str,
        about: &'static str,
        handler: impl Fn(Request) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response> + Send + 'static,
    {
        self.routes
            .retain(|r| !(r.method == method && r.path == path));
        let handler: Handler = Arc::new(move |request| Box::pin(handler(request)));
        self.routes.push(Route {
            method,
            path,
            about,
            handler,
        });
        self
    }

    /// Adds a GET route whose JSON is made on the spot.
    #[must_use]
    pub fn json<T: serde::Serialize>(
        self,
        path: &'static str,
        about: &'static str,
        make: impl Fn() -> T + Send + Sync + 'static,
    ) -> Self {
        self.route(Method::GET, path, about, move |_| {
            std::future::ready(Response::json(&make()))
        })
    }

    pub(super) async fn answer(&self, request: Request) -> Response {
        let at_path = || self.routes.iter().filter(|r| r.path == request.path);
        let wanted = if request.method == Method::HEAD {
            &Method::GET
        } else {
            &request.method
        };
        if let Some(route) = at_path().find(|r| r.method == *wanted) {
            return (route.handler)(request).await;
        }
        let allowed: Vec<_> = at_path().map(|r| r.method.as_str()).collect();
        if !allowed.is_empty() {
            let text = format!("use {} for {}\n", allowed.join(" or "), request.path);
            return Response::text(text).status(405);
        }
        if request.path == "/" && wanted == Method::GET {
            return self.front_page();
        }
        Response::text("nothing here: see / for what there is\n").status(404)
    }

    fn front_page(&self) -> Response {
        let mut page = format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title>\
             </head>\n<body><h1>{0}</h1>\n<table>\n",
            self.title
        );
        for route in &self.routes {
            let path = if route.method == Method::GET {
                format!("<a href=\"{0}\">{0}</a>", route.path)
            } else {
                route.path.to_owned()
            };
            page.push_str(&format!(
                "<tr><td>{}</td><td>{path}</td><td>{}</td></tr>\n",
                route.method, route.about
            ));
        }
        page.push_str("</table></body></html>\n");
        Response::new("text/html; charset=utf-8", page)
    }
}
