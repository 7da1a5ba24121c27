"""The objects as Todoist shows them in a sync answer: every member, with the value a new one has."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


def item(id_: str, user_id: str, project_id: str, at: str) -> Json:
    """A task."""
    return {
        "id": id_,
        "user_id": user_id,
        "project_id": project_id,
        "section_id": None,
        "parent_id": None,
        "added_by_uid": user_id,
        "assigned_by_uid": None,
        "responsible_uid": None,
        "labels": [],
        "deadline": None,
        "duration": None,
        "is_collapsed": False,
        "checked": False,
        "is_deleted": False,
        "added_at": at,
        "completed_at": None,
        "completed_by_uid": None,
        "updated_at": at,
        "due": None,
        "priority": 1,
        "child_order": 1,
        "content": "",
        "description": "",
        "note_count": 0,
        "day_order": -1,
    }


def project(id_: str, name: str, at: str) -> Json:
    """A personal project. The official client tells a workspace's project by its having `workspace_id` at all."""
    return {
        "id": id_,
        "name": name,
        "description": "",
        "color": "charcoal",
        "parent_id": None,
        "child_order": 1,
        "default_order": 0,
        "is_collapsed": False,
        "shared": False,
        "is_shared": False,
        "can_assign_tasks": False,
        "is_deleted": False,
        "is_archived": False,
        "is_favorite": False,
        "is_frozen": False,
        "view_style": "list",
        "inbox_project": False,
        "created_at": at,
        "updated_at": at,
    }


def section(id_: str, user_id: str, project_id: str, name: str, at: str) -> Json:
    """A section of a project."""
    return {
        "id": id_,
        "user_id": user_id,
        "project_id": project_id,
        "name": name,
        "description": None,
        "section_order": 1,
        "is_collapsed": False,
        "is_deleted": False,
        "is_archived": False,
        "archived_at": None,
        "added_at": at,
        "updated_at": at,
    }


def label(id_: str, name: str) -> Json:
    """A personal label."""
    return {"id": id_, "name": name, "color": "charcoal", "item_order": 1, "is_deleted": False, "is_favorite": False}


def filter_(id_: str, name: str, query: str) -> Json:
    """A saved search."""
    return {
        "id": id_,
        "name": name,
        "query": query,
        "color": "charcoal",
        "item_order": 1,
        "is_deleted": False,
        "is_favorite": False,
        "is_frozen": False,
    }


def note(id_: str, owner: str, owner_id: str, user_id: str, at: str) -> Json:
    """A comment; `owner` is item_id or project_id, and only that one is a member of it."""
    return {
        "id": id_,
        owner: owner_id,
        "posted_uid": user_id,
        "content": "",
        "file_attachment": None,
        "uids_to_notify": None,
        "reactions": None,
        "is_deleted": False,
        "posted_at": at,
    }


def reminder(id_: str, item_id: str, user_id: str, type_: str) -> Json:
    """A reminder; `due` or `minute_offset` is added by its type."""
    return {"id": id_, "notify_uid": user_id, "item_id": item_id, "type": type_, "is_urgent": False, "is_deleted": False}


def user(id_: str, full_name: str, email: str, inbox: str, at: str, *, zone: str, hours: int, token: str) -> Json:
    """The user, as sync gives it, with a personal token among the rest; `hours` is the zone's distance from UTC."""
    return {
        "id": id_,
        "email": email,
        "full_name": full_name,
        "activated_user": True,
        "auto_reminder": 0,
        "business_account_id": None,
        "daily_goal": 5,
        "date_format": 0,
        "dateist_lang": None,
        "days_off": [6, 7],
        "feature_identifier": f"{id_}_sandbox",
        "features": {
            "karma_disabled": False,
            "restriction": 3,
            "karma_vacation": False,
            "dateist_lang": None,
            "beta": 0,
            "has_push_reminders": True,
            "dateist_inline_disabled": False,
        },
        "getting_started_guide_projects": None,
        "has_magic_number": True,
        "has_password": True,
        "image_id": None,
        "inbox_project_id": inbox,
        "is_celebrations_enabled": True,
        "is_premium": True,
        "joinable_workspace": None,
        "joined_at": at,
        "karma": 1234.0,
        "karma_trend": "up",
        "lang": "en",
        "next_week": 1,
        "premium_status": "current_personal_plan",
        "premium_until": None,
        "share_limit": 51,
        "sort_order": 0,
        "start_day": 1,
        "start_page": "today",
        "theme_id": "11",
        "time_format": 0,
        "token": token,
        "tz_info": {
            "timezone": zone,
            "hours": hours,
            "minutes": 0,
            "is_dst": 0,
            "gmt_string": f"{'-' if hours < 0 else '+'}{abs(hours):02d}:00",
        },
        "unique_prefix": 1,
        "verification_status": "verified",
        "websocket_url": "wss://ws.todoist.com/ws",
        "weekend_start_day": 6,
        "weekly_goal": 25,
    }


_SETTINGS: Json = {
    "completed_sound_desktop": True,
    "completed_sound_mobile": True,
    "legacy_pricing": 0,
    "navigation": {"counts_shown": True, "features": []},
    "quick_add": {"labels_shown": True, "features": []},
    "reminder_desktop": True,
    "reminder_email": False,
    "reminder_push": True,
    "reset_recurring_subtasks": False,
    "ai_email_assist": False,
}

#: What every resource type brings when there is nothing: its members in the answer and their empty values, of which the documentation's
#: example shows more as {} than Doist's own client understands.
NOTHING: dict[str, Json] = {
    "labels": {"labels": []},
    "projects": {"projects": []},
    "items": {"items": []},
    "notes": {"notes": []},
    "project_notes": {"project_notes": []},
    "sections": {"sections": []},
    "filters": {"filters": []},
    "reminders": {"reminders": []},
    "reminders_location": {"reminders_location": []},
    "locations": {"locations": []},
    "user": {},
    "live_notifications": {"live_notifications": [], "live_notifications_last_read_id": "0"},
    "collaborators": {"collaborators": []},
    "collaborator_states": {"collaborator_states": []},
    "user_settings": {"user_settings": _SETTINGS},
    "notification_settings": {"settings_notifications": {}},
    "user_plan_limits": {"user_plan_limits": {"current": {}, "next": None}},
    "completed_info": {"completed_info": []},
    "stats": {"stats": {}},
    "workspaces": {"workspaces": []},
    "workspace_users": {"workspace_users": []},
    "workspace_filters": {"workspace_filters": []},
    "view_options": {"view_options": []},
    "project_view_options_defaults": {"project_view_options_defaults": []},
    "role_actions": {"role_actions": []},
    "folders": {"folders": []},
    "day_orders": {"day_orders": {}},
    "calendars": {"calendars": []},
    "calendar_accounts": {"calendar_accounts": []},
    "suggestions": {"suggestions": []},
    "tooltips": {"tooltips": {}},
}
