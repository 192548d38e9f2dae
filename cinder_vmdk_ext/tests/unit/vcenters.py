# SPDX-License-Identifier: Apache-2.0
"""A fake vCenter with fixed answers, as session and client."""

import types

from lxml import etree
from oslo_vmware import exceptions

from cinder_vmdk_ext.vsphere import references
from cinder_vmdk_ext.vsphere import soap

LOST = exceptions.VimFaultException([exceptions.NOT_AUTHENTICATED], 'lost')
SILENT = exceptions.VimConnectionException('no reply')


moref = references.Ref


class Session:
    """Of oslo.vmware, as far as a bulk read needs it."""

    def __init__(self):
        self.logins = 0
        self.vim = types.SimpleNamespace(service_content=types.SimpleNamespace(
            viewManager=moref('ViewManager', 'ViewManager'),
            rootFolder=moref('Folder', 'group-d1'),
            propertyCollector=moref('PropertyCollector', 'pc')))

    def ensure_logged_in(self):
        self.logins += 1

    def invoke_api(self, module, method, *args, **kwargs):
        return getattr(module, method)(*args, **kwargs)


class Login:
    """What the calls of a client go by."""


class Client:
    """Answers ``call`` by method: an element, an error, or several in turn."""

    def __init__(self, **answers):
        self.answers = {'CreateContainerView': reply(
            '<returnval type="ContainerView">view-1</returnval>'),
            'DestroyView': reply('')} | answers
        self.calls = []
        self.https = Login()

    def call(self, method, this, arguments=None, read_seconds=0):
        self.calls.append((method, this, arguments))
        answer = self.answers[method]
        if isinstance(answer, list):
            answer = answer.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def stream(self, method, this, arguments, names, read_seconds=0):
        tags = {soap.tag(name) for name in names}
        yield from [element for element in self.call(
            method, this, arguments).iter() if element.tag in tags]

    @property
    def methods(self):
        return [method for method, _, _ in self.calls]


def reply(content):
    return etree.fromstring(
        f'<R xmlns="{soap.VIM}" xmlns:xsi="{soap.XSI}"'
        f' xmlns:xsd="http://www.w3.org/2001/XMLSchema">{content}</R>')


def page(*objects, token=None):
    """A RetrievePropertiesEx reply, which also holds the view."""
    return reply('<returnval>'
                 + (f'<token>{token}</token>' if token else '')
                 + '<objects><obj type="ContainerView">view-1</obj></objects>'
                 + ''.join(objects) + '</returnval>')


def managed(kind, value, **properties):
    """An object in a page; values are (xsi:type, content)."""
    return (f'<objects><obj type="{kind}">{value}</obj>' + ''.join(
        f'<propSet><name>{name.replace("__", ".")}</name>'
        f'<val xsi:type="{each[0]}">{each[1]}</val></propSet>'
        for name, each in properties.items()) + '</objects>')
